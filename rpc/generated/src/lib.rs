//! Services of every form as `ringway-build` generates them. The tests serve and call them.

/// Messages by buffa, handlers are futures.
pub mod buffa {
    ringway_rpc::include_proto!("buffa");
}

/// One method is a plain function, the others are futures.
pub mod mixed {
    ringway_rpc::include_proto!("mixed");
}

/// All methods of one service are plain functions.
pub mod plain {
    ringway_rpc::include_proto!("plain");
}

/// Messages by prost.
pub mod prost {
    ringway_rpc::include_proto!("prost");
}
