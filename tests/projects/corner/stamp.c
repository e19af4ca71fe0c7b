#include <stdio.h>

int main(void)
{
	puts(__TIMESTAMP__);
	return 0;
}
