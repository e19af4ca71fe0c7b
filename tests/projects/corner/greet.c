#include "greet.h"

#include <stdio.h>

int greet(const char *whom)
{
	char line[80];
	int length = snprintf(line, sizeof line, "good day, %s", whom);
	puts(line);
	return length;
}
