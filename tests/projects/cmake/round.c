int whole(double value)
{
	return (int)(value + 0.5);
}
