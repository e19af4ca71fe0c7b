#include <value.h>

int value = VALUE;

#ifdef VALUE_SAYS_MAIN
int main(void)
{
	return VALUE;
}
#endif
