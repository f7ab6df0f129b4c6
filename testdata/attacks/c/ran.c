/* Says that it ran, and needs nothing for it. */
#include <unistd.h>

int main(void) { return write(1, "ran", 3) != 3; }
