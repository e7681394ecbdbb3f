"""The rehearsal: the very plan, with the very kernels, in a throw-away virtual machine.

`command.rehearse` is what the command line calls; `machine.Guest` is what tests boot.
Nothing here changes the machine it runs on: kernels are loaded and booted inside QEMU only.
"""
