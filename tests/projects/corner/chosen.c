#ifdef CHOSEN
#include CHOSEN
#else
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define IN(directory, name) TEXT(directory/name)
#include IN(DIRECTORY, chosen.h)
#endif

int chosen = VALUE;
