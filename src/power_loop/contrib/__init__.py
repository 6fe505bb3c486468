"""What connects a loop to other systems: sinks for events, protocols for tools and browsers. Each module is imported by its name."""
