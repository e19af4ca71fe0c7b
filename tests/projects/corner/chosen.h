#define VALUE 11
