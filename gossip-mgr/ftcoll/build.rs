fn main() {
    gossip_mpi_build::compile("src/pmpi.c", "gossip_pmpi");
}
