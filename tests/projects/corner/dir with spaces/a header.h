#define A_HEADER 5
