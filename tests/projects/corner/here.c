#include <stdio.h>

int main(void)
{
	return printf("%s:%d\n", __FILE__, __LINE__) < 0;
}
