#include "units.hpp"

double inches(double mm)
{
	return mm / INCH_MM;
}
