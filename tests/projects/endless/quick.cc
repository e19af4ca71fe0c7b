unsigned part()
{
	return PART;
}
