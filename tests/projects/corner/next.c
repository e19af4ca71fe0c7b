#include "config.h"
#include <limits.h>

int next = LIMITS_SEEN + INT_MAX % 2;
const char *which = WHICH;
