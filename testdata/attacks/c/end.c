/* Ends, by one system call and without a C library: gcc -nostdlib -static. */
void _start(void)
{
#if defined(__x86_64__)
	__asm__ volatile("mov $60, %eax\n\txor %edi, %edi\n\tsyscall");
#elif defined(__aarch64__)
	__asm__ volatile("mov x8, #93\n\tmov x0, #0\n\tsvc #0");
#else
#error "which number has exit(2) here?"
#endif
	for (;;)
		;
}
