package shmfifo

const sysGetcpu = 309
