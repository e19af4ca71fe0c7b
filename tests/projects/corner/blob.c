__asm__(".section .rodata\n.globl blob\nblob: .incbin \"blob.bin\"\n.previous\n");

extern const char blob[];

char first(void)
{
	return blob[0];
}
