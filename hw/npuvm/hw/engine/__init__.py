"""The discrete-event model of the chip: cores with sequencers and units, on simpy."""
