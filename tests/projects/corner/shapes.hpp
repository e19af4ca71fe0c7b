#pragma once
#include <memory>
#include <string>
#include <vector>

struct Shape {
	virtual ~Shape() = default;
	virtual double area() const = 0;
};

std::unique_ptr<Shape> square(double side);

template <typename T> T sum(const std::vector<T> &all)
{
	T total{};
	for (const T &one : all)
		total += one;
	return total;
}
