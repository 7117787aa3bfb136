"""What a fluid around all bodies does to them: MuJoCo's models of boxes with the bodies' inertia, and of ellipsoids."""
