#define LIMITS_SEEN 1
#include_next <limits.h>
