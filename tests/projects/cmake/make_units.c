#include <stdio.h>

int main(void)
{
	return puts("constexpr double INCH_MM = 25.4;") < 0;
}
