/* Some 200 functions, to keep a compiler busy: PART tells the objects apart. */

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#define ONE(n)                                                              \
	unsigned JOIN(JOIN(part, PART), n)(unsigned x, const unsigned *more) \
	{                                                                   \
		for (unsigned i = 0; i < x % 17; i++)                       \
			x = (x ^ more[i]) * (2u * PART + 1) + (x >> (i & 7)); \
		return x ? x / 3 : JOIN(0, n);                              \
	}
#define TEN(n) \
	ONE(n##0) ONE(n##1) ONE(n##2) ONE(n##3) ONE(n##4) ONE(n##5) ONE(n##6) ONE(n##7)
#define HUNDRED(n) TEN(n##0) TEN(n##1) TEN(n##2) TEN(n##3) TEN(n##4) TEN(n##5) TEN(n##6) TEN(n##7)

HUNDRED(1) HUNDRED(2) HUNDRED(3)
