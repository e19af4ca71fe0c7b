#include "shapes.hpp"

#include <iostream>
#include <stdexcept>

int main()
try {
	std::vector<double> areas;
	for (double side : {1.0, 2.0, 3.0})
		areas.push_back(square(side)->area());
	std::cout << sum(areas) << '\n';
	if (sum(areas) != 14)
		throw std::runtime_error("geometry has changed");
} catch (const std::exception &error) {
	std::cerr << error.what() << '\n';
	return 1;
}
