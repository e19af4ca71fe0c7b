#include <config.h>

const char *const which = WHICH;

int main(void)
{
	return which[0] != 'l';
}
