	.section .rodata
	.globl blob
blob:
	.incbin "blob.bin"
	.section .note.GNU-stack,"",@progbits
