savedcmd_arch/um/os-mk/decouple/modules.order := {  :; } > arch/um/os-mk/decouple/modules.order
