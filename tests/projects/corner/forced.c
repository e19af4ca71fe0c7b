#ifndef FORCED
#define FORCED 0
#endif
#ifndef MACRO
#define MACRO 0
#endif
int forced = FORCED + MACRO;
