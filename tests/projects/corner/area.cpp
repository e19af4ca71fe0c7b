#include "shapes.hpp"

namespace {
struct Square : Shape {
	explicit Square(double side) : side(side) {}
	double area() const override { return side * side; }
	double side;
};
}

std::unique_ptr<Shape> square(double side)
{
	return std::make_unique<Square>(side);
}
