int deeper(void);

int main(void)
{
	return deeper();
}
