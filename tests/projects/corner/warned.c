int warned(int unused)
{
	int uninitialised;
	return uninitialised;
}
