#include "gone.h"

int dependent = 1;
