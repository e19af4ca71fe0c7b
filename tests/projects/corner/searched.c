__asm__(".section .rodata\n.globl blob\nblob: .incbin \"late.bin\"\n.previous\n");

extern const char blob[];

char first(void)
{
	return blob[0];
}
