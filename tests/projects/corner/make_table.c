#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0;
	puts("#include <stdio.h>\nstatic const int squares[] = {");
	for (int i = 0; i < count; i++)
		printf("\t%d,\n", i * i);
	puts("};\nint main(void)\n{\n\tunsigned sum = 0;");
	puts("\tfor (unsigned i = 0; i < sizeof squares / sizeof *squares; i++)\n\t\tsum += squares[i];");
	puts("\treturn printf(\"%u\\n\", sum) < 0;\n}");
	return 0;
}
