#include <iostream>

double inches(double mm);
extern "C" int whole(double value);

int main()
{
	std::cout << whole(inches(254)) << '\n';
}
