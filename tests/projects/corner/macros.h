#define MACRO 2
int not_taken_from_here;
