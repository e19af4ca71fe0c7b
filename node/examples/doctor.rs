//! Prints what this machine lets sandboxes do: `cargo run -p mesh-node --example doctor`.

fn main() {
    mesh_node::exec::run_launcher_if_asked();
    for check in mesh_node::doctor::probe() {
        println!("{:?} {}: {} {}", check.status, check.name, check.detail, check.hint);
    }
}
