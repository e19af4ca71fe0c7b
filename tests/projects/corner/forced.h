#define FORCED 40
