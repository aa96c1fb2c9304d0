#!/bin/sh
echo "modes are mirrored, too"
