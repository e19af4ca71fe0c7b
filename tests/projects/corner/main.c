#include "greet.h"
#ifdef MISSING
#include "no-such-header.h"
#endif

int main(int argc, char **argv)
{
	return greet(argc > 1 ? argv[1] : "reader") > 79;
}
