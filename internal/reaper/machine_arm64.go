package reaper

const machine = 183 // EM_AARCH64
