fn main() {
    gossip_mpi_build::compile("src/mpi.c", "gossip_mpi");
}
