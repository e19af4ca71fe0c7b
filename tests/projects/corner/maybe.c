#if __has_include("maybe.h")
#include "maybe.h"
#else
#define MAYBE 0
#endif
#if defined __has_include
#if __has_include(<no/such/header.h>)
#error what is not there was found
#endif
#endif

int main(void)
{
	return MAYBE;
}
