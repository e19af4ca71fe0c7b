/* Computed by the compiler, for longer than anybody waits. */

constexpr unsigned long turn(unsigned long x)
{
	for (int i = 0; i < 2000000000; i++)
		x = x * 6364136223846793005UL + PART;
	return x;
}

constexpr unsigned long all(unsigned long x)
{
	for (int i = 0; i < 2000000000; i++)
		x = turn(x);
	return x;
}

static_assert(all(1) != 0, "");
