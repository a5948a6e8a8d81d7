//! The epoll driver.
