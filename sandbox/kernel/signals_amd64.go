package kernel

// saRestorer says that the action has a restorer, which x86-64 insists on.
const saRestorer = 0x04000000
