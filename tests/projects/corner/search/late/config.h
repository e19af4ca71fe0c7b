#define WHICH "late"
