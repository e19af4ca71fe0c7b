#ifndef GREET_H
#define GREET_H
#ifdef __cplusplus
extern "C"
#endif
int greet(const char *whom);
#endif
