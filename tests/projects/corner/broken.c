int broken(void)
{
	return undeclared + 1;
}
