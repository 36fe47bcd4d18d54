package shmfifo

const sysGetcpu = 168
