#include <stdio.h>

int main(void)
{
	puts("grüß Gott");
	return 0;
}
