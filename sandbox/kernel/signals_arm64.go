package kernel

// saRestorer: arm64 returns from a handler through the vDSO.
const saRestorer = 0
