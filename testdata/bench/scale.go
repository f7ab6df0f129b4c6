package main

const scalePattern = "^scale/"

func scaleCases() []benchCase { return nil }
