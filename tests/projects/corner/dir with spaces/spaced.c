#include "a header.h"

int spaced = A_HEADER;
