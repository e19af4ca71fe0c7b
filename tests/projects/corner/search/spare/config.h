#define WHICH "early"
